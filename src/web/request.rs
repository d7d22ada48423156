//! IndexedDB's events as futures. Handlers are attached when the request or transaction is made,
//! never later: an event that nobody listened for does not come again.
//!
//! Nothing here waits for ever: browsers have been seen to let a request or a transaction hang. `glue.js`
//! counts the steps while the page is awake, so that a device that slept for an hour does not wake up to
//! transactions that have all timed out.

use super::glue;
use super::idb::storage_error;
use crate::error::{Code, Error, Result};
use futures_channel::oneshot;
use js_sys::Array;
use std::cell::RefCell;
use std::future::Future;
use wasm_bindgen::prelude::*;
use web_sys::{IdbDatabase, IdbRequest, IdbTransaction};

/// How a transaction ended.
pub(super) enum Ended {
    /// It is stored.
    Complete,
    /// Nothing of it is stored; the reason is a DOMException, or null.
    Aborted(JsValue),
    /// It called back neither way.
    Silent,
}

/// What an event has told: a result, or the reason of a failure.
type Answer = std::result::Result<JsValue, JsValue>;

/// The kinds of `listen` in `glue.js`; anything else is no answer at all.
const FINE: u32 = 0;
const FAILED: u32 = 1;

/// What waits for an event of IndexedDB. One handler serves them all: making one for each would
/// cost more than the rest of a small write.
struct Waits {
    handler: Closure<dyn FnMut(u32, u32, JsValue)>,
    senders: Vec<(u32, oneshot::Sender<Option<Answer>>)>,
    next: u32,
}

thread_local! {
    static WAITS: RefCell<Waits> = RefCell::new(Waits {
        handler: Closure::new(answered),
        senders: Vec::new(),
        next: 0,
    });
}

fn answered(token: u32, ended: u32, value: JsValue) {
    let sender = WAITS.with_borrow_mut(|waits| {
        let at = waits
            .senders
            .iter()
            .position(|(known, _)| *known == token)?;
        Some(waits.senders.swap_remove(at).1)
    });
    let answer = match ended {
        FINE => Some(Ok(value)),
        FAILED => Some(Err(value)),
        _ => None,
    };
    if let Some(sender) = sender {
        // Nobody may wait any more.
        let _ = sender.send(answer);
    }
}

/// A number for a wait, the handler to call with it, and what comes of it.
fn register() -> (u32, JsValue, oneshot::Receiver<Option<Answer>>) {
    let (sender, receiver) = oneshot::channel();
    WAITS.with_borrow_mut(|waits| {
        let token = waits.next;
        waits.next = waits.next.wrapping_add(1);
        waits.senders.push((token, sender));
        (token, waits.handler.as_ref().clone(), receiver)
    })
}

/// The error of what has not answered in time.
pub(super) fn no_answer(code: Code) -> Error {
    Error::new(code, "the database did not answer in time")
}

async fn end_of(tx: IdbTransaction, end: oneshot::Receiver<Option<Answer>>) -> Ended {
    match end.await.ok().flatten() {
        Some(Ok(_)) => Ended::Complete,
        Some(Err(reason)) => Ended::Aborted(reason),
        None => {
            // Refused where it was told to commit: then only reading shows what has become of it.
            let _ = tx.abort();
            Ended::Silent
        }
    }
}

/// The end of a transaction. Call it before the first request.
pub(super) fn ended(tx: &IdbTransaction) -> impl Future<Output = Ended> + use<> {
    let (token, handler, end) = register();
    glue::listen_to_end(tx, token, &handler);
    end_of(tx.clone(), end)
}

/// Adds values at the keys after `after`, in a transaction of their own. What is thrown at once is
/// the error; then nothing is stored.
pub(super) fn append(
    db: &IdbDatabase,
    store: &str,
    durability: &str,
    after: f64,
    values: &Array,
    early: bool,
) -> std::result::Result<impl Future<Output = Ended> + use<>, JsValue> {
    let (token, handler, end) = register();
    let (store, durability) = (glue::name(store), glue::name(durability));
    let tx = glue::append(
        db,
        &store,
        &durability,
        after,
        values,
        early,
        token,
        &handler,
    )?;
    Ok(end_of(tx, end))
}

/// The result of a request. One that does not answer in time takes its connection with it, so that
/// the next call begins with a new one.
pub(super) fn result(request: IdbRequest) -> impl Future<Output = Result<JsValue>> {
    let (token, handler, answer) = register();
    glue::listen(&request, token, &handler);
    async move {
        if let Some(answer) = answer.await.ok().flatten() {
            return answer.map_err(|e| storage_error(&e));
        }
        let Some(tx) = request.transaction() else {
            return Err(no_answer(Code::StorageFailed));
        };
        let lost = glue::is_lost(&tx.db());
        let _ = tx.abort();
        tx.db().close();
        Err(no_answer(if lost {
            Code::DatabaseLost
        } else {
            Code::StorageFailed
        }))
    }
}
