//! The store of the browser: IndexedDB.
//!
//! rexie creates the database; transactions go through web-sys, whose handlers are attached when a
//! transaction is made: rexie has no durability option, loses the reason of a failure, and waits for
//! ever on a transaction that has committed by itself. Nothing but its own requests is awaited inside a transaction. The connection, and what can
//! happen to it, is in `connection`.

mod ahead;
mod connection;
mod segments;

pub(super) use connection::Lost;

use super::budget::Budget;
use super::codec::{self, KeyFields};
use super::decode;
use super::glue::{self, get, get_text};
use super::request::{Ended, ended, no_answer, result};
use super::value::Row;
use crate::error::{Code, Error, Result};
use crate::limits;
use crate::store::{AppendError, Base, Entry, Place, ReadEntry, SegmentId, Seq, Store, Tail};
use ahead::Ahead;
use connection::{Connection, Fate};
use js_sys::{Array, Object};
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{IdbCursorDirection, IdbKeyRange, IdbTransaction};

const LOG: &str = "log";
const SEGMENTS: &str = "segments";
const META: &str = "meta";
const QUARANTINE: &str = "quarantine";
/// rexie deletes a store that is missing from its list.
const STORES: [&str; 4] = [LOG, SEGMENTS, META, QUARANTINE];

/// One database.
pub(super) struct IdbStore {
    name: String,
    durability: &'static str,
    keys: KeyFields,
    client: Rc<str>,
    connection: RefCell<Option<Rc<Connection>>>,
    fate: Rc<Fate>,
    budget: Budget,
    ahead: Ahead,
    /// Whether there is a database; a rehearsal has none.
    is_real: bool,
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
    thread_local! {
        static COMMITS_EARLY: bool =
            get(&get(&js_sys::global(), "navigator"), "userAgentData").is_object();
    }
    COMMITS_EARLY.with(|it| *it)
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

/// An entry of a newer version stops everything: what follows it means something only with it.
fn refuse_newer(mut entries: impl Iterator<Item = JsValue>) -> Result<()> {
    entries.try_for_each(|entry| decode::check_format(&entry))
}

impl IdbStore {
    fn decode(&self, key: &JsValue, value: &JsValue, segment: bool) -> ReadEntry<Row> {
        let number = key.as_f64().unwrap_or(0.0) as u64;
        let entry = decode::decode(value, &self.keys, segment.then_some(number));
        if let Ok(entry) = &entry {
            self.hold(entry);
        }
        (number, entry)
    }

    fn hold(&self, entry: &Entry<Row>) {
        entry.each_value(|row| self.budget.hold(row));
    }

    async fn read_tail(&self) -> Result<Tail> {
        let tx = self.begin(&[LOG, META], None).await?;
        let log = store_of(&tx, LOG)?;
        let request = log
            .open_cursor_with_range_and_direction(&JsValue::NULL, IdbCursorDirection::Prev)
            .map_err(|e| storage_error(&e))?;
        let base = store_of(&tx, META)?.get(&glue::name("base"));
        let base = base.map_err(|e| storage_error(&e))?;
        let (cursor, base) = (result(request), result(base));
        let (cursor, base) = (cursor.await, base.await);
        let (cursor, base) = (cursor?, base?);
        let summary = get(&get(&cursor, "value"), "summary");
        self.tail_of(&get(&cursor, "key"), &summary, &base)
    }

    fn tail_of(&self, newest: &JsValue, summary: &JsValue, base: &JsValue) -> Result<Tail> {
        let base = segments::decode_base(base)?;
        let newest = newest.as_f64().map(|key| key as Seq);
        let summary = match newest {
            Some(_) => decode::decode_summary(summary),
            None => (base.through > 0).then(|| base.summary.clone()),
        };
        Ok(Tail {
            client: self.client.clone(),
            seq: newest.unwrap_or(0).max(base.through),
            summary,
            base,
        })
    }

    async fn log_after(&self, after: Seq, limit: u32) -> Result<(Array, Array)> {
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
        let (keys, values) = (result(keys), result(values));
        let (keys, values) = (keys.await, values.await);
        Ok((keys?.unchecked_into(), values?.unchecked_into()))
    }

    /// Begins the transaction of an append and makes all its requests.
    async fn begin_append(
        &self,
        after: Seq,
        values: &Array,
        durability: &'static str,
    ) -> Result<impl Future<Output = Ended> + use<>> {
        self.with_connection(|connection| {
            connection.append(durability, after as f64, values, commits_early())
        })
        .await
    }

    /// Whether an append that never answered is in the log after all: that shows in a transaction
    /// which begins after it. Entries are stored together, so the first one tells.
    async fn has_stored(&self, after: Seq, values: &Array) -> Result<bool> {
        let text = |value: &JsValue| js_sys::JSON::stringify(value).ok();
        let ours = text(&values.get(0));
        let stored = || async move {
            let tx = self.begin(&[LOG], None).await?;
            let request = store_of(&tx, LOG)?.get(&JsValue::from((after + 1) as f64));
            result(request.map_err(|e| storage_error(&e))?).await
        };
        let stored = self.again(stored).await?;
        Ok(!stored.is_undefined() && text(&stored) == ours)
    }
}

impl Store<Row> for IdbStore {
    async fn tail(&self) -> Result<Tail> {
        match self.ahead.tail() {
            // Of a database with nothing in it nothing more is read: what was written since would not show.
            Some((newest, base)) if !(newest.is_null() && base.is_undefined()) => {
                let (key, summary) = (get(&newest, "key"), get(&newest, "summary"));
                self.tail_of(&key, &summary, &base)
            }
            _ => self.again(|| self.read_tail()).await,
        }
    }

    async fn read(
        &self,
        after: Seq,
        limit: u32,
    ) -> Result<impl IntoIterator<Item = ReadEntry<Row>>> {
        let (keys, values) = match self.ahead.log(after, limit).await {
            Some(read) => read,
            None => self.again(|| self.log_after(after, limit)).await?,
        };
        refuse_newer(values.iter())?;
        let count = values.length();
        let read = move |at| self.decode(&keys.get(at), &values.get(at), false);
        Ok((0..count).map(read))
    }

    async fn append(
        &self,
        after: Seq,
        entries: &[Entry<Row>],
    ) -> std::result::Result<(), AppendError> {
        let mut last = Error::new(Code::DatabaseLost, "the database was closed");
        let durability = if entries.iter().any(Entry::must_be_flushed) {
            "strict"
        } else {
            self.durability
        };
        // Once: at a second attempt not all of it may be in memory.
        let values: Result<Array> = entries.iter().map(codec::encode).collect();
        let values = values?;
        if !self.is_real {
            return Ok(());
        }
        // What is told of it afterwards is there.
        let _stays = self.budget.pin();
        for attempt in 0..limits::REOPEN_MAX {
            let end = self.begin_append(after, &values, durability).await?;
            match end.await {
                Ended::Complete => {
                    entries.iter().for_each(|entry| self.hold(entry));
                    return Ok(());
                }
                Ended::Aborted(reason) => {
                    if get_text(&reason, "name").as_deref() == Some("ConstraintError") {
                        // By the attempt before, perhaps, whose end was not told truly.
                        if attempt > 0 && self.has_stored(after, &values).await? {
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
                    if self.has_stored(after, &values).await? {
                        return Ok(());
                    }
                    last = no_answer(Code::StorageFailed);
                }
            }
        }
        Err(last.into())
    }

    async fn quarantine(&self, place: Place, reason: &str) -> Result<()> {
        let (store, number, kept_as) = match place {
            Place::Log(seq) => (LOG, seq, JsValue::from(seq as f64)),
            Place::Segment(id) => (SEGMENTS, id, format!("segment {id}").into()),
        };
        let tx = self
            .begin(&[store, QUARANTINE], Some(self.durability))
            .await?;
        let end = ended(&tx);
        let entry = store_of(&tx, store)?.get(&JsValue::from(number as f64));
        let entry = result(entry.map_err(|e| storage_error(&e))?).await?;
        let kept = Object::new();
        glue::set(&kept, "reason", &reason.into());
        glue::set(&kept, "at", &js_sys::Date::now().into());
        let entry = Some(entry).filter(|e| !e.is_undefined());
        glue::set(&kept, "entry", &entry.unwrap_or(JsValue::NULL));
        store_of(&tx, QUARANTINE)?
            .put_with_key(&kept, &kept_as)
            .map_err(|e| storage_error(&e))?;
        segments::finish(end).await
    }

    async fn read_segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<Row>>> {
        self.segments(ids).await
    }

    async fn write_segments(&self, entries: &[Entry<Row>]) -> Result<Vec<(SegmentId, Entry<Row>)>> {
        self.add_segments(entries).await
    }

    async fn switch(&self, base: &Base) -> Result<bool> {
        self.put_base(base).await
    }

    async fn sweep(&self, generation: u64, read: Seq) -> Result<()> {
        self.delete_unneeded(generation, read).await
    }

    async fn fetch(&self, values: &[Row]) -> Result<()> {
        // What was there when this was asked for stays until it is answered.
        let _stays = self.budget.pin();
        self.again(|| self.restore(values)).await
    }

    fn evict(&self) {
        self.budget.evict();
    }
}
