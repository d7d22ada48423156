//! Segments and the base in IndexedDB: how compaction is stored, and how rows are fetched again.

use super::super::codec;
use super::super::decode;
use super::super::glue::{self, get};
use super::super::request::{Ended, ended, no_answer, result};
use super::super::value::Row;
use super::{IdbStore, LOG, META, SEGMENTS, range, storage_error, store_of};
use crate::error::{Code, Result};
use crate::store::{Base, Entry, Fact, ReadEntry, SegmentId, Seq};
use js_sys::{Array, Float64Array, Object};
use std::future::Future;
use wasm_bindgen::prelude::*;
use web_sys::IdbCursorDirection;

fn encode_base(base: &Base) -> Object {
    let out = Object::new();
    let segments: Vec<f64> = base.segments.iter().map(|id| *id as f64).collect();
    glue::set(&out, "generation", &(base.generation as f64).into());
    glue::set(&out, "through", &(base.through as f64).into());
    glue::set(&out, "segments", &Float64Array::from(segments.as_slice()));
    glue::set(&out, "summary", &codec::encode_summary(&base.summary));
    out
}

pub(super) fn decode_base(base: &JsValue) -> Result<Base> {
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

pub(super) async fn finish(end: impl Future<Output = Ended>) -> Result<()> {
    match end.await {
        Ended::Complete => Ok(()),
        Ended::Aborted(reason) => Err(storage_error(&reason)),
        Ended::Silent => Err(no_answer(Code::StorageFailed)),
    }
}

impl IdbStore {
    /// Asks for segments as they are stored: all of them, before the first has come.
    async fn ask_for(
        &self,
        ids: &[SegmentId],
    ) -> Result<Vec<impl Future<Output = Result<JsValue>> + use<>>> {
        let tx = self.begin(&[SEGMENTS], None).await?;
        let store = store_of(&tx, SEGMENTS)?;
        let mut asked = Vec::with_capacity(ids.len());
        for id in ids {
            let request = store.get(&JsValue::from(*id as f64));
            asked.push(result(request.map_err(|e| storage_error(&e))?));
        }
        Ok(asked)
    }

    async fn stored_segments(&self, ids: &[SegmentId]) -> Result<Array> {
        let found = Array::new();
        for value in self.ask_for(ids).await? {
            found.push(&value.await?);
        }
        Ok(found)
    }

    pub(super) async fn segments(&self, ids: &[SegmentId]) -> Result<Vec<ReadEntry<Row>>> {
        let found = match self.ahead.segments(ids).await {
            Some(found) => found,
            None => self.again(|| self.stored_segments(ids)).await?,
        };
        let mut entries = Vec::with_capacity(ids.len());
        for (id, value) in ids.iter().zip(found.iter()) {
            decode::check_format(&value)?;
            entries.push(self.decode(&JsValue::from(*id as f64), &value, true));
        }
        Ok(entries)
    }

    pub(super) async fn add_segments(
        &self,
        entries: &[Entry<Row>],
    ) -> Result<Vec<(SegmentId, Entry<Row>)>> {
        // Before anything is awaited: what is in memory now may be let go then.
        let values: Result<Vec<Object>> = entries.iter().map(codec::encode).collect();
        let values = values?;
        let tx = self.begin(&[SEGMENTS], Some(self.durability)).await?;
        let end = ended(&tx);
        let store = store_of(&tx, SEGMENTS)?;
        let newest = store
            .open_key_cursor_with_range_and_direction(&JsValue::NULL, IdbCursorDirection::Prev)
            .map_err(|e| storage_error(&e))?;
        let newest = get(&result(newest).await?, "key").as_f64().unwrap_or(0.0) as SegmentId;
        let mut written = Vec::with_capacity(entries.len());
        for (id, value) in (newest + 1..).zip(values) {
            let key = JsValue::from(id as f64);
            store
                .add_with_key(&value, &key)
                .map_err(|e| storage_error(&e))?;
            // The same texts, as what can be fetched again.
            written.push((key, value));
        }
        finish(end).await?;
        let mut decoded = Vec::with_capacity(written.len());
        for ((key, value), entry) in written.iter().zip(entries) {
            decoded.push(if entry.facts.iter().any(Fact::is_remote) {
                let (id, entry) = self.decode(key, value, true);
                (id, entry?)
            } else {
                (key.as_f64().unwrap_or(0.0) as SegmentId, entry.bare())
            });
        }
        Ok(decoded)
    }

    pub(super) async fn put_base(&self, base: &Base) -> Result<bool> {
        let tx = self.begin(&[META], Some("strict")).await?;
        let end = ended(&tx);
        let meta = store_of(&tx, META)?;
        let key = glue::name("base");
        let stored = result(meta.get(&key).map_err(|e| storage_error(&e))?).await?;
        if decode_base(&stored)?.generation + 1 != base.generation {
            return Ok(false);
        }
        meta.put_with_key(&encode_base(base), &key)
            .map_err(|e| storage_error(&e))?;
        finish(end).await?;
        Ok(true)
    }

    pub(super) async fn delete_unneeded(&self, generation: u64, read: Seq) -> Result<()> {
        let stores = [LOG, SEGMENTS, META];
        let tx = self.begin(&stores, Some(self.durability)).await?;
        let end = ended(&tx);
        let (log, segments) = (store_of(&tx, LOG)?, store_of(&tx, SEGMENTS)?);
        let base = store_of(&tx, META)?.get(&glue::name("base"));
        let keys = segments.get_all_keys().map_err(|e| storage_error(&e))?;
        let base = result(base.map_err(|e| storage_error(&e))?);
        let keys = result(keys);
        let (base, keys) = (base.await, keys.await);
        let (base, keys): (Base, Array) = (decode_base(&base?)?, keys?.unchecked_into());
        if base.generation != generation {
            return finish(end).await;
        }
        log.delete(&range(base.through.min(read), false)?.into())
            .map_err(|e| storage_error(&e))?;
        for key in keys.iter() {
            let named = key
                .as_f64()
                .is_some_and(|k| base.segments.contains(&(k as u64)));
            // What was queued on top of a record keeps the row of the old segment: this goes with another sweep.
            let id = key.as_f64().unwrap_or(0.0) as SegmentId;
            if !named && !self.budget.holds(id) {
                segments.delete(&key).map_err(|e| storage_error(&e))?;
            }
        }
        finish(end).await
    }

    pub(super) async fn restore(&self, values: &[Row]) -> Result<()> {
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
        let mut found = Vec::with_capacity(wanted.len());
        for value in self.ask_for(&wanted).await? {
            found.push(value.await?);
        }
        // In one turn: nobody lets a part go before whoever asked has looked at all of it.
        for (id, value) in wanted.iter().zip(found) {
            let runs = decode::runs(&value)?;
            for rows in self.budget.missing(*id) {
                let run = rows.home().map_or(0, |home| home.run);
                let stored = runs.get(run as usize);
                let stored = stored.ok_or_else(|| decode::damaged("rows"))?;
                rows.restore(decode::rows_of(stored)?);
                self.budget.restored(&rows);
            }
        }
        Ok(())
    }
}
