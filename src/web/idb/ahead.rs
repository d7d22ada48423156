//! What was read while the module was on its way, with the connection: see `reach` in `reach.js`. Each
//! part is used once, by whoever asks for just that; anybody else asks the database.

use super::super::glue::{self, get};
use crate::store::{SegmentId, Seq};
use js_sys::{Array, Promise};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// An answer of `reach`, until what is in it was used.
#[derive(Default)]
pub(super) struct Ahead {
    tail: RefCell<Option<JsValue>>,
    segments: RefCell<Option<JsValue>>,
    log: RefCell<Option<JsValue>>,
}

impl Ahead {
    pub(super) fn of(reached: JsValue) -> Self {
        if get(&reached, "ahead").is_undefined() {
            return Self::default();
        }
        Self {
            tail: RefCell::new(Some(reached.clone())),
            segments: RefCell::new(Some(reached.clone())),
            log: RefCell::new(Some(reached)),
        }
    }

    /// As of a database with nothing in it.
    pub(super) fn nothing() -> Self {
        Self {
            tail: RefCell::new(Some(JsValue::UNDEFINED)),
            ..Self::default()
        }
    }

    /// The newest entry (`{ key, summary }`, or null) and the base.
    pub(super) fn tail(&self) -> Option<(JsValue, JsValue)> {
        let reached = self.tail.take()?;
        Some((get(&reached, "newest"), get(&reached, "base")))
    }

    /// These segments, each as it is stored.
    pub(super) async fn segments(&self, ids: &[SegmentId]) -> Option<Array> {
        let reached = self.segments.take()?;
        let ids = ids.iter().map(|id| JsValue::from(*id as f64)).collect();
        list(glue::segments_ahead(&reached, &ids)).await
    }

    /// Keys and values of the log after `after`, so many at most.
    pub(super) async fn log(&self, after: Seq, limit: u32) -> Option<(Array, Array)> {
        // Segments come first: nobody will ask for them any more.
        self.segments.take();
        let reached = self.log.take()?;
        let log = list(glue::log_ahead(&reached, after as f64, limit)).await?;
        Some((log.get(0).unchecked_into(), log.get(1).unchecked_into()))
    }
}

async fn list(read: Promise) -> Option<Array> {
    JsFuture::from(read).await.ok()?.dyn_into().ok()
}
