//! The store of the browser: IndexedDB.
//!
//! rexie creates the database and serves what is seldom touched (`meta`, `quarantine`); the log goes
//! through web-sys, whose handlers are attached when a transaction is made: rexie has no durability
//! option, loses the reason of a failure, and waits for ever on a transaction that has committed by
//! itself. Nothing but its own requests is awaited inside a transaction.

use super::codec::{self, KeyFields};
use super::glue::{self, get, get_text};
use super::request::{Ended, ended, opened, result};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::{AppendError, Entry, FORMAT, ReadEntry, Seq, Store, Tail};
use js_sys::{Array, Object};
use rexie::{ObjectStore, Rexie, TransactionMode};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{IdbCursorDirection, IdbDatabase, IdbFactory, IdbKeyRange, IdbTransaction};

/// Version of the schema: every store below. rexie deletes a store that is missing from its list.
const SCHEMA: u32 = 1;
const LOG: &str = "log";
const META: &str = "meta";
const QUARANTINE: &str = "quarantine";
const STORES: [&str; 3] = [LOG, META, QUARANTINE];
/// Times a lost connection is opened again for one call.
const REOPEN_MAX: u32 = 3;

/// One database.
pub(super) struct IdbStore {
    name: String,
    durability: &'static str,
    keys: KeyFields,
    client: Rc<str>,
    connection: RefCell<Option<Rc<Connection>>>,
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
    ) -> Result<Self> {
        let mut store = Self {
            name,
            durability,
            keys,
            client: "".into(),
            connection: RefCell::new(None),
        };
        if let Err(error) = store.connect().await {
            if error.code != Code::NotFound {
                return Err(error);
            }
            store.create().await?;
            store.connect().await?;
        }
        let tx = store.begin(META, None).await?;
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
        let db = opened(request).await?;
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

    /// Begins a transaction on one store: read-only, or with this durability.
    async fn begin(&self, store: &str, durability: Option<&str>) -> Result<IdbTransaction> {
        let mut last = None;
        for _ in 0..REOPEN_MAX {
            let connection = self.connect().await?;
            let tx = match durability {
                None => connection.db.transaction_with_str(store),
                Some(durability) => glue::transaction(&connection.db, store, durability),
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

impl Store<JsValue> for IdbStore {
    async fn tail(&self) -> Result<Tail> {
        let tx = self.begin(LOG, None).await?;
        let log = store_of(&tx, LOG)?;
        let request = log
            .open_cursor_with_range_and_direction(&JsValue::NULL, IdbCursorDirection::Prev)
            .map_err(|e| storage_error(&e))?;
        let cursor = result(request).await?;
        let seq = get(&cursor, "key").as_f64().unwrap_or(0.0) as Seq;
        let summary = codec::decode_summary(&get(&get(&cursor, "value"), "summary"));
        Ok(Tail {
            client: self.client.clone(),
            seq,
            summary,
        })
    }

    async fn read(&self, after: Seq, limit: u32) -> Result<Vec<ReadEntry<JsValue>>> {
        let tx = self.begin(LOG, None).await?;
        let log = store_of(&tx, LOG)?;
        let range = IdbKeyRange::lower_bound_with_open(&JsValue::from(after as f64), true)
            .map_err(|e| storage_error(&e))?;
        let keys = log
            .get_all_keys_with_key_and_limit(&range, limit)
            .map_err(|e| storage_error(&e))?;
        let values = log
            .get_all_with_key_and_limit(&range, limit)
            .map_err(|e| storage_error(&e))?;
        // Both were asked for in one transaction: they belong together.
        let (keys, values) = futures_util::join!(result(keys), result(values));
        let (keys, values): (Array, Array) = (keys?.unchecked_into(), values?.unchecked_into());
        let entries = keys
            .iter()
            .zip(values.iter())
            .map(|(key, value)| (key.as_f64().unwrap_or(0.0) as Seq, codec::decode(&value)));
        let entries: Vec<ReadEntry<JsValue>> = entries.collect();
        let newer = entries.iter().find_map(|(_, entry)| {
            entry
                .as_ref()
                .err()
                .filter(|e| e.code == Code::DatabaseNewer)
        });
        match newer {
            Some(error) => Err(error.clone()),
            None => Ok(entries),
        }
    }

    async fn append(
        &self,
        after: Seq,
        entries: &[Entry<JsValue>],
    ) -> std::result::Result<(), AppendError> {
        let mut last = Error::new(Code::DatabaseLost, "the database was closed");
        for _ in 0..REOPEN_MAX {
            let tx = self.begin(LOG, Some(self.durability)).await?;
            let end = ended(&tx, limits::TRANSACTION_TIMEOUT_MS);
            let log = store_of(&tx, LOG)?;
            for (entry, seq) in entries.iter().zip(after + 1..) {
                let added =
                    log.add_with_key(&codec::encode(entry, &self.keys), &(seq as f64).into());
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

    async fn quarantine(&self, seq: Seq, reason: &str) -> Result<()> {
        let fail = |error: rexie::Error| Error::new(Code::StorageFailed, error.to_string());
        let rexie = self.rexie().await?;
        let tx = rexie
            .transaction(&[LOG, QUARANTINE], TransactionMode::ReadWrite)
            .map_err(fail)?;
        let key = JsValue::from(seq as f64);
        let entry = tx
            .store(LOG)
            .map_err(fail)?
            .get(key.clone())
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
}
