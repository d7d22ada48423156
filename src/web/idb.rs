//! The store of the browser: IndexedDB.
//!
//! rexie creates the database and serves what is seldom touched (`meta`, `quarantine`); the log goes
//! through web-sys, whose handlers are attached when a transaction is made: rexie has no durability
//! option, loses the reason of a failure, and waits for ever on a transaction that has committed by
//! itself. Nothing but its own requests is awaited inside a transaction.

use super::budget::Budget;
use super::codec::{self, KeyFields};
use super::decode;
use super::glue::{self, get, get_text};
use super::request::{Ended, ended, opened, result};
use super::value::Row;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::{
    AppendError, Base, Entry, FORMAT, Place, ReadEntry, SegmentId, Seq, Store, Tail,
};
use js_sys::{Array, Float64Array, Object};
use rexie::{ObjectStore, Rexie, TransactionMode};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{IdbCursorDirection, IdbDatabase, IdbFactory, IdbKeyRange, IdbTransaction};

/// Version of the schema: every store below. rexie deletes a store that is missing from its list.
const SCHEMA: u32 = 2;
const LOG: &str = "log";
const SEGMENTS: &str = "segments";
const META: &str = "meta";
const QUARANTINE: &str = "quarantine";
const STORES: [&str; 4] = [LOG, SEGMENTS, META, QUARANTINE];
/// Times a lost connection is opened again for one call.
const REOPEN_MAX: u32 = 3;

/// One database.
pub(super) struct IdbStore {
    name: String,
    durability: &'static str,
    keys: KeyFields,
    client: Rc<str>,
    connection: RefCell<Option<Rc<Connection>>>,
    budget: Budget,
}

/// A connection and the handlers that say when it is gone.
struct Connection {
    db: IdbDatabase,
    _handlers: [Closure<dyn FnMut()>; 2],
}

/// The name of the database of an app's user.
pub(super) fn database_name(app: &str, user: &str) -> String {
    // A colon in either part must not make two databases one.
    format!(
        "landfall:{}:{}",
        app.replace('%', "%25").replace(':', "%3A"),
        user
    )
}

fn factory() -> Result<IdbFactory> {
    let found = get(&js_sys::global(), "indexedDB");
    if found.is_undefined() || found.is_null() {
        let message = "this browser (or this mode of it) has no IndexedDB";
        return Err(Error::new(Code::UnsupportedEnvironment, message));
    }
    Ok(found.unchecked_into())
}

/// A typed error for what IndexedDB threw or reported.
pub(super) fn storage_error(error: &JsValue) -> Error {
    let kind = get_text(error, "name").unwrap_or_default();
    let text = get_text(error, "message").unwrap_or_default();
    let (code, what) = match kind.as_str() {
        "QuotaExceededError" => (Code::QuotaExceeded, "there is no room to store this"),
        "VersionError" => (
            Code::DatabaseNewer,
            "a newer version of this app wrote the database",
        ),
        "SecurityError" => (Code::UnsupportedEnvironment, "storage is switched off here"),
        "InvalidStateError" => (Code::DatabaseLost, "the database was closed"),
        "AbortError" => (
            Code::DatabaseLost,
            "the transaction was given up by the browser",
        ),
        "DataCloneError" => (
            Code::NotCloneable,
            "a value cannot be copied into the database",
        ),
        _ => (Code::StorageFailed, "the database failed"),
    };
    Error::new(code, format!("{what} ({kind}: {text})"))
}

impl IdbStore {
    /// Opens the database, creating it where there is none.
    pub(super) async fn open(
        name: String,
        durability: &'static str,
        keys: KeyFields,
        memory_bytes: f64,
    ) -> Result<Self> {
        let mut store = Self {
            name,
            durability,
            keys,
            client: "".into(),
            connection: RefCell::new(None),
            budget: Budget::new(memory_bytes),
        };
        if let Err(error) = store.connect().await {
            if error.code != Code::NotFound {
                return Err(error);
            }
            store.create().await?;
            store.connect().await?;
        }
        let tx = store.begin(&[META], None).await?;
        let request = store_of(&tx, META)?.get(&glue::name("identity"));
        let identity = result(request.map_err(|e| storage_error(&e))?).await?;
        let format = get(&identity, "format").as_f64().unwrap_or(0.0);
        if format > f64::from(FORMAT) {
            let message = format!("the database has format {format}; this version reads {FORMAT}");
            store.close();
            return Err(Error::new(Code::DatabaseNewer, message));
        }
        let client = get_text(&identity, "client").filter(|c| !c.is_empty());
        store.client = client.map(Rc::from).ok_or_else(|| {
            Error::new(Code::DatabaseDamaged, "the database has lost its identity")
        })?;
        Ok(store)
    }

    /// Closes the connection; a later call opens it again.
    pub(super) fn close(&self) {
        if let Some(connection) = self.connection.borrow_mut().take() {
            connection.db.set_onclose(None);
            connection.db.set_onversionchange(None);
            connection.db.close();
        }
    }

    /// A connection for what is seldom done; creates the database where there is none.
    async fn rexie(&self) -> Result<Rexie> {
        let builder = Rexie::builder(&self.name).version(SCHEMA);
        let builder = STORES
            .iter()
            .fold(builder, |b, s| b.add_object_store(ObjectStore::new(s)));
        builder
            .build()
            .await
            .map_err(|e| Error::new(Code::StorageFailed, e.to_string()))
    }

    /// Makes the stores and the identity.
    async fn create(&self) -> Result<()> {
        let fail = |error: rexie::Error| Error::new(Code::StorageFailed, error.to_string());
        let rexie = self.rexie().await?;
        // Read and write in one transaction: of two tabs, one makes the identity.
        let tx = rexie
            .transaction(&[META], TransactionMode::ReadWrite)
            .map_err(fail)?;
        let meta = tx.store(META).map_err(fail)?;
        let key = glue::name("identity");
        if meta.get(key.clone()).await.map_err(fail)?.is_none() {
            let identity = Object::new();
            glue::set(&identity, "format", &FORMAT.into());
            glue::set(&identity, "client", &random_id().into());
            glue::set(&identity, "created", &js_sys::Date::now().into());
            meta.put(&identity, Some(&key)).await.map_err(fail)?;
        }
        tx.done().await.map_err(fail)?;
        rexie.close();
        Ok(())
    }

    async fn connect(&self) -> Result<Rc<Connection>> {
        if let Some(connection) = self.connection.borrow().clone() {
            return Ok(connection);
        }
        let request = factory()?
            .open_with_u32(&self.name, SCHEMA)
            .map_err(|e| storage_error(&e))?;
        let db = opened(request, upgrade).await?;
        if !STORES.iter().all(|s| db.object_store_names().contains(s)) {
            db.close();
            let message = format!("{} is not a database of landfall", self.name);
            return Err(Error::new(Code::DatabaseDamaged, message));
        }
        // Forgets the connection, so that the next call opens it again, or learns why it cannot.
        let gone = |db: &IdbDatabase| {
            let db = db.clone();
            Closure::<dyn FnMut()>::new(move || db.close())
        };
        let handlers = [gone(&db), gone(&db)];
        db.set_onversionchange(Some(handlers[0].as_ref().unchecked_ref()));
        db.set_onclose(Some(handlers[1].as_ref().unchecked_ref()));
        let connection = Rc::new(Connection {
            db,
            _handlers: handlers,
        });
        *self.connection.borrow_mut() = Some(connection.clone());
        Ok(connection)
    }

    /// Begins a transaction: read-only, or with this durability.
    async fn begin(&self, stores: &[&str], durability: Option<&str>) -> Result<IdbTransaction> {
        let names: Array = stores.iter().map(|s| glue::name(s)).collect();
        let mut last = None;
        for _ in 0..REOPEN_MAX {
            let connection = self.connect().await?;
            let tx = match durability {
                None => glue::transaction(&connection.db, &names, "readonly", "default"),
                Some(durability) => {
                    glue::transaction(&connection.db, &names, "readwrite", durability)
                }
            };
            match tx {
                Ok(tx) => return Ok(tx),
                Err(error) => {
                    // Closed by the browser or by a newer tab.
                    self.close();
                    last = Some(storage_error(&error));
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Code::DatabaseLost, "the database was closed")))
    }
}

/// Whether `commit()` may be called without waiting for the requests before it. Chromium aborts
/// the transaction when one of them fails, as the standard says, and it saves a round trip.
/// Firefox 153 was seen to commit what was left, so there (and where nobody has looked) the
/// transaction is left to commit by itself. Only Chromium has `userAgentData`.
fn commits_early() -> bool {
    get(&get(&js_sys::global(), "navigator"), "userAgentData").is_object()
}

/// Brings an older schema up to this one; `false` where there was no database at all.
fn upgrade(db: &IdbDatabase, old: u32) -> bool {
    if old == 1 {
        // Format 1 had no segments; its log is read as it is.
        let _ = db.create_object_store(SEGMENTS);
    }
    old > 0
}

fn store_of(tx: &IdbTransaction, store: &str) -> Result<web_sys::IdbObjectStore> {
    tx.object_store(store).map_err(|e| storage_error(&e))
}

/// 128 random bits as 22 characters that fit into a URL and into an id.
pub(super) fn random_id() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let crypto = get(&js_sys::global(), "crypto");
    let bytes = js_sys::Uint8Array::new_with_length(26);
    let crypto: web_sys::Crypto = crypto.unchecked_into();
    // Only a closed document refuses.
    let _ = crypto.get_random_values_with_js_u8_array(&bytes);
    bytes
        .to_vec()
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(b % 32)]))
        .collect()
}

/// A range of keys up to `last`, or after it.
fn range(last: Seq, after: bool) -> Result<IdbKeyRange> {
    let bound = JsValue::from(last as f64);
    let range = if after {
        IdbKeyRange::lower_bound_with_open(&bound, true)
    } else {
        IdbKeyRange::upper_bound(&bound)
    };
    range.map_err(|e| storage_error(&e))
}

fn encode_base(base: &Base) -> Object {
    let out = Object::new();
    let segments: Vec<f64> = base.segments.iter().map(|id| *id as f64).collect();
    glue::set(&out, "generation", &(base.generation as f64).into());
    glue::set(&out, "through", &(base.through as f64).into());
    glue::set(&out, "segments", &Float64Array::from(segments.as_slice()));
    glue::set(&out, "summary", &codec::encode_summary(&base.summary));
    out
}

fn decode_base(base: &JsValue) -> Result<Base> {
    if base.is_undefined() {
        return Ok(Base::default());
    }
    let number = |field| decode::need_whole(base, field);
    Ok(Base {
        generation: number("generation")?,
        through: number("through")?,
        segments: decode::wholes(base, "segments")?,
        summary: decode::decode_summary(&get(base, "summary"))
            .ok_or_else(|| decode::damaged("base"))?,
    })
}

impl IdbStore {
    fn decode(&self, key: &JsValue, value: &JsValue, segment: bool) -> ReadEntry<Row> {
        let number = key.as_f64().unwrap_or(0.0) as u64;
        let entry = decode::decode(value, &self.keys, segment.then_some(number));
        if segment && let Ok(entry) = &entry {
            entry.each_value(|row| self.budget.hold(row));
        }
        (number, entry)
    }

    /// Runs a transaction that has to succeed as a whole.
    async fn finish(&self, end: impl Future<Output = Ended>) -> Result<()> {
        match end.await {
            Ended::Complete => Ok(()),
            Ended::Aborted(reason) => Err(storage_error(&reason)),
            Ended::Silent => {
                self.close();
                let message = "the database did not answer in time";
                Err(Error::new(Code::StorageFailed, message))
            }
        }
    }
}

fn newer(entries: Vec<ReadEntry<Row>>) -> Result<Vec<ReadEntry<Row>>> {
    let is_newer = |e: &&Error| e.code == Code::DatabaseNewer;
    let mut errors = entries.iter().filter_map(|(_, entry)| entry.as_ref().err());
    match errors.find(is_newer) {
        Some(error) => Err(error.clone()),
        None => Ok(entries),
    }
}

impl Store<Row> for IdbStore {
    async fn tail(&self) -> Result<Tail> {
        let tx = self.begin(&[LOG, META], None).await?;
        let log = store_of(&tx, LOG)?;
        let request = log
            .open_cursor_with_range_and_direction(&JsValue::NULL, IdbCursorDirection::Prev)
            .map_err(|e| storage_error(&e))?;
        let base = store_of(&tx, META)?.get(&glue::name("base"));
        let base = base.map_err(|e| storage_error(&e))?;
        let (cursor, base) = futures_util::join!(result(request), result(base));
        let (cursor, base) = (cursor?, decode_base(&base?)?);
        let newest = get(&cursor, "key").as_f64().map(|key| key as Seq);
        let summary = match newest {
            Some(_) => decode::decode_summary(&get(&get(&cursor, "value"), "summary")),
            None => (base.through > 0).then(|| base.summary.clone()),
        };
        Ok(Tail {
            client: self.client.clone(),
            seq: newest.unwrap_or(0).max(base.through),
            summary,
            base,
        })
    }

    async fn read(&self, after: Seq, limit: u32) -> Result<Vec<ReadEntry<Row>>> {
        let tx = self.begin(&[LOG], None).await?;
        let log = store_of(&tx, LOG)?;
        let range = range(after, true)?;
        let keys = log
            .get_all_keys_with_key_and_limit(&range, limit)
            .map_err(|e| storage_error(&e))?;
        let values = log
            .get_all_with_key_and_limit(&range, limit)
            .map_err(|e| storage_error(&e))?;
        // Both were asked for in one transaction: they belong together.
        let (keys, values) = futures_util::join!(result(keys), result(values));
        let (keys, values): (Array, Array) = (keys?.unchecked_into(), values?.unchecked_into());
        let entries = keys.iter().zip(values.iter());
        newer(
            entries
                .map(|(key, value)| self.decode(&key, &value, false))
                .collect(),
        )
    }

    async fn append(
        &self,
        after: Seq,
        entries: &[Entry<Row>],
    ) -> std::result::Result<(), AppendError> {
        let mut last = Error::new(Code::DatabaseLost, "the database was closed");
        for _ in 0..REOPEN_MAX {
            let tx = self.begin(&[LOG], Some(self.durability)).await?;
            let end = ended(&tx, limits::TRANSACTION_TIMEOUT_MS);
            let log = store_of(&tx, LOG)?;
            for (entry, seq) in entries.iter().zip(after + 1..) {
                let added = log.add_with_key(&codec::encode(entry), &(seq as f64).into());
                if let Err(error) = added {
                    let _ = tx.abort();
                    return Err(storage_error(&error).into());
                }
            }
            if commits_early() {
                #[expect(
                    deprecated,
                    reason = "marked so by mistake in web-sys; the standard has it"
                )]
                let _ = tx.commit();
            }
            match end.await {
                Ended::Complete => return Ok(()),
                Ended::Aborted(reason) => {
                    if get_text(&reason, "name").as_deref() == Some("ConstraintError") {
                        return Err(AppendError::Taken);
                    }
                    last = storage_error(&reason);
                    if last.code != Code::DatabaseLost {
                        return Err(last.into());
                    }
                    self.close();
                }
                Ended::Silent => {
                    // Whether it is stored shows when the log is read again.
                    self.close();
                    let message = "the database did not answer in time";
                    return Err(Error::new(Code::StorageFailed, message).into());
                }
            }
        }
        Err(last.into())
    }

    async fn quarantine(&self, place: Place, reason: &str) -> Result<()> {
        let fail = |error: rexie::Error| Error::new(Code::StorageFailed, error.to_string());
        let (store, number, key) = match place {
            Place::Log(seq) => (LOG, seq, JsValue::from(seq as f64)),
            Place::Segment(id) => (SEGMENTS, id, format!("segment {id}").into()),
        };
        let rexie = self.rexie().await?;
        let tx = rexie
            .transaction(&[store, QUARANTINE], TransactionMode::ReadWrite)
            .map_err(fail)?;
        let entry = tx.store(store).map_err(fail)?;
        let entry = entry
            .get(JsValue::from(number as f64))
            .await
            .map_err(fail)?;
        let kept = Object::new();
        glue::set(&kept, "reason", &reason.into());
        glue::set(&kept, "at", &js_sys::Date::now().into());
        glue::set(&kept, "entry", &entry.unwrap_or(JsValue::NULL));
        let quarantine = tx.store(QUARANTINE).map_err(fail)?;
        quarantine.put(&kept, Some(&key)).await.map_err(fail)?;
        tx.done().await.map_err(fail)?;
        rexie.close();
        Ok(())
    }

    async fn read_segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<Row>>> {
        let tx = self.begin(&[SEGMENTS], None).await?;
        let store = store_of(&tx, SEGMENTS)?;
        let ask = |id: &SegmentId| store.get(&JsValue::from(*id as f64)).map(result);
        let asked: std::result::Result<Vec<_>, JsValue> = ids.iter().map(ask).collect();
        let values = futures_util::future::join_all(asked.map_err(|e| storage_error(&e))?).await;
        let mut entries = Vec::with_capacity(ids.len());
        for (id, value) in ids.iter().zip(values) {
            entries.push(self.decode(&JsValue::from(*id as f64), &value?, true));
        }
        newer(entries)
    }

    async fn write_segments(&self, entries: &[Entry<Row>]) -> Result<Vec<(SegmentId, Entry<Row>)>> {
        let tx = self.begin(&[SEGMENTS], Some(self.durability)).await?;
        let end = ended(&tx, limits::TRANSACTION_TIMEOUT_MS);
        let store = store_of(&tx, SEGMENTS)?;
        let newest = store
            .open_key_cursor_with_range_and_direction(&JsValue::NULL, IdbCursorDirection::Prev)
            .map_err(|e| storage_error(&e))?;
        let newest = get(&result(newest).await?, "key").as_f64().unwrap_or(0.0) as SegmentId;
        let mut written = Vec::with_capacity(entries.len());
        for (id, entry) in (newest + 1..).zip(entries) {
            let value = codec::encode(entry);
            let key = JsValue::from(id as f64);
            store
                .add_with_key(&value, &key)
                .map_err(|e| storage_error(&e))?;
            // The same texts, as what can be fetched again.
            written.push((key, value));
        }
        self.finish(end).await?;
        let decoded = written.iter().map(|(key, value)| {
            let (id, entry) = self.decode(key, value, true);
            entry.map(|entry| (id, entry))
        });
        decoded.collect()
    }

    async fn switch(&self, base: &Base) -> Result<bool> {
        let tx = self.begin(&[META], Some("strict")).await?;
        let end = ended(&tx, limits::TRANSACTION_TIMEOUT_MS);
        let meta = store_of(&tx, META)?;
        let key = glue::name("base");
        let stored = result(meta.get(&key).map_err(|e| storage_error(&e))?).await?;
        if decode_base(&stored)?.generation + 1 != base.generation {
            return Ok(false);
        }
        meta.put_with_key(&encode_base(base), &key)
            .map_err(|e| storage_error(&e))?;
        self.finish(end).await?;
        Ok(true)
    }

    async fn sweep(&self) -> Result<()> {
        let stores = [LOG, SEGMENTS, META];
        let tx = self.begin(&stores, Some(self.durability)).await?;
        let end = ended(&tx, limits::TRANSACTION_TIMEOUT_MS);
        let (log, segments) = (store_of(&tx, LOG)?, store_of(&tx, SEGMENTS)?);
        let base = store_of(&tx, META)?.get(&glue::name("base"));
        let keys = segments.get_all_keys().map_err(|e| storage_error(&e))?;
        let base = result(base.map_err(|e| storage_error(&e))?);
        let (base, keys) = futures_util::join!(base, result(keys));
        let (base, keys): (Base, Array) = (decode_base(&base?)?, keys?.unchecked_into());
        log.delete(&range(base.through, false)?.into())
            .map_err(|e| storage_error(&e))?;
        for key in keys.iter() {
            let named = key
                .as_f64()
                .is_some_and(|k| base.segments.contains(&(k as u64)));
            if !named {
                segments.delete(&key).map_err(|e| storage_error(&e))?;
            }
        }
        self.finish(end).await
    }

    async fn fetch(&self, values: &[Row]) -> Result<()> {
        let mut wanted: Vec<SegmentId> = Vec::new();
        for row in values.iter().filter(|row| !row.rows.is_resident()) {
            if let Some(home) = row.rows.home()
                && !wanted.contains(&home.segment)
            {
                wanted.push(home.segment);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let tx = self.begin(&[SEGMENTS], None).await?;
        let store = store_of(&tx, SEGMENTS)?;
        let ask = |id: &SegmentId| store.get(&JsValue::from(*id as f64)).map(result);
        let asked: std::result::Result<Vec<_>, JsValue> = wanted.iter().map(ask).collect();
        let found = futures_util::future::join_all(asked.map_err(|e| storage_error(&e))?).await;
        for (id, value) in wanted.iter().zip(found) {
            let lists = decode::lists(&value?)?;
            for rows in self.budget.missing(*id) {
                let run = rows.home().map_or(0, |home| home.run);
                let texts = lists.get(run as usize);
                rows.restore(texts.ok_or_else(|| decode::damaged("rows"))?);
                self.budget.restored(&rows);
            }
        }
        Ok(())
    }

    fn evict(&self) {
        self.budget.evict();
    }
}
