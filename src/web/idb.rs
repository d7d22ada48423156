//! The store of the browser: IndexedDB.
//!
//! rexie creates the database and serves what is seldom touched (`meta`, `quarantine`); the log goes
//! through web-sys, whose handlers are attached when a transaction is made: rexie has no durability
//! option, loses the reason of a failure, and waits for ever on a transaction that has committed by
//! itself. Nothing but its own requests is awaited inside a transaction. The connection, and what can
//! happen to it, is in `connection`.

mod connection;

pub(super) use connection::Lost;

use super::codec::{self, KeyFields};
use super::glue::{self, get, get_text};
use super::request::{Ended, ended, result};
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::{AppendError, Entry, ReadEntry, Seq, Store, Tail};
use connection::{Connection, Fate, rexie_error};
use js_sys::{Array, Object};
use rexie::TransactionMode;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{IdbCursorDirection, IdbKeyRange, IdbTransaction};

/// Version of the schema: every store below. rexie deletes a store that is missing from its list.
const SCHEMA: u32 = 1;
const LOG: &str = "log";
const META: &str = "meta";
const QUARANTINE: &str = "quarantine";
const STORES: [&str; 3] = [LOG, META, QUARANTINE];

/// One database.
pub(super) struct IdbStore {
    name: String,
    durability: &'static str,
    keys: KeyFields,
    client: Rc<str>,
    connection: RefCell<Option<Rc<Connection>>>,
    fate: Rc<Fate>,
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

/// A typed error for what IndexedDB threw or reported.
pub(super) fn storage_error(error: &JsValue) -> Error {
    let kind = get_text(error, "name").unwrap_or_default();
    let text = get_text(error, "message").unwrap_or_default();
    if kind.is_empty() {
        // Aborted without a reason, and not by us.
        let message = "the transaction was given up by the browser";
        return Error::new(Code::DatabaseLost, message);
    }
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
        // So Chromium and Safari call a connection that breaks under a transaction, too.
        "UnknownError" => (Code::DatabaseLost, "the database failed"),
        "DataCloneError" => (
            Code::NotCloneable,
            "a value cannot be copied into the database",
        ),
        _ => (Code::StorageFailed, "the database failed"),
    };
    Error::new(code, format!("{what} ({kind}: {text})"))
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

impl IdbStore {
    async fn read_tail(&self) -> Result<Tail> {
        let tx = self.begin(&[LOG], None).await?;
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

    async fn read_log(&self, after: Seq, limit: u32) -> Result<Vec<ReadEntry<JsValue>>> {
        let tx = self.begin(&[LOG], None).await?;
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

    /// Whether an append that never answered is in the log after all: that shows in a transaction
    /// which begins after it. Entries are stored together, so the first one tells.
    async fn has_stored(&self, after: Seq, entries: &[Entry<JsValue>]) -> Result<bool> {
        let text = |value: &JsValue| js_sys::JSON::stringify(value).ok();
        let ours = entries.first().map(|e| codec::encode(e, &self.keys));
        let ours = ours.and_then(|value| text(&value));
        let stored = || async move {
            let tx = self.begin(&[LOG], None).await?;
            let request = store_of(&tx, LOG)?.get(&JsValue::from((after + 1) as f64));
            result(request.map_err(|e| storage_error(&e))?).await
        };
        let stored = self.again(stored).await?;
        Ok(!stored.is_undefined() && text(&stored) == ours)
    }
}

impl Store<JsValue> for IdbStore {
    async fn tail(&self) -> Result<Tail> {
        self.again(|| self.read_tail()).await
    }

    async fn read(&self, after: Seq, limit: u32) -> Result<Vec<ReadEntry<JsValue>>> {
        self.again(|| self.read_log(after, limit)).await
    }

    async fn append(
        &self,
        after: Seq,
        entries: &[Entry<JsValue>],
    ) -> std::result::Result<(), AppendError> {
        let mut last = Error::new(Code::DatabaseLost, "the database was closed");
        for attempt in 0..limits::REOPEN_MAX {
            let tx = self.begin(&[LOG], Some(self.durability)).await?;
            let end = ended(&tx);
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
                        // By the attempt before, perhaps, whose end was not told truly.
                        if attempt > 0 && self.has_stored(after, entries).await? {
                            return Ok(());
                        }
                        return Err(AppendError::Taken);
                    }
                    last = storage_error(&reason);
                    if last.code != Code::DatabaseLost {
                        return Err(last.into());
                    }
                    self.close();
                }
                Ended::Silent => {
                    self.close();
                    if self.has_stored(after, entries).await? {
                        return Ok(());
                    }
                    let message = "the database did not answer in time";
                    last = Error::new(Code::StorageFailed, message);
                }
            }
        }
        Err(last.into())
    }

    async fn quarantine(&self, seq: Seq, reason: &str) -> Result<()> {
        let fail = |error: rexie::Error| rexie_error(&error);
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
