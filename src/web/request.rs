//! IndexedDB's events as futures. Handlers are attached when the request or transaction is made,
//! never later: an event that nobody listened for does not come again.
//!
//! Nothing here waits for ever: browsers have been seen to let a request or a transaction hang. The
//! limits are counted in steps while the page is awake, so that a device that slept for an hour
//! does not wake up to transactions that have all timed out.

use super::glue::{self, get};
use super::idb::storage_error;
use crate::error::{Code, Error, Result};
use crate::limits;
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use gloo_timers::future::TimeoutFuture;
use js_sys::Function;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_sys::{IdbDatabase, IdbOpenDbRequest, IdbRequest, IdbTransaction};

/// Marks a connection that the browser has closed. Chromium 156 was seen to leave what was under way
/// then without any answer.
const LOST: &str = "landfallLost";

/// The browser has closed this connection: what has not answered soon will not answer any more.
pub(super) fn mark_lost(db: &IdbDatabase) {
    glue::set(db.unchecked_ref(), LOST, &JsValue::TRUE);
}

fn patience_ms(db: &IdbDatabase) -> u32 {
    let lost = get(db, LOST).is_truthy();
    if lost {
        0
    } else {
        limits::TRANSACTION_TIMEOUT_MS
    }
}

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

/// Takes at most one answer, from whichever handler comes first.
struct Once(RefCell<Option<oneshot::Sender<Answer>>>);

impl Once {
    fn new() -> (Rc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Rc::new(Self(RefCell::new(Some(sender)))), receiver)
    }

    fn send(&self, answer: Answer) {
        if let Some(sender) = self.0.borrow_mut().take() {
            // Nobody waits any more.
            let _ = sender.send(answer);
        }
    }
}

type Handler = Closure<dyn FnMut()>;

/// Handlers for success and failure: they answer with a property of `target`.
fn handlers(once: &Rc<Once>, target: &JsValue, success: &'static str) -> (Handler, Handler) {
    let handler = |field: &'static str| {
        let (once, target) = (once.clone(), target.clone());
        Handler::new(move || {
            let value = get(&target, field);
            let fine = field != ERROR;
            once.send(if fine { Ok(value) } else { Err(value) });
        })
    };
    (handler(success), handler(ERROR))
}

const ERROR: &str = "error";

fn function(handler: &Handler) -> Option<&Function> {
    Some(handler.as_ref().unchecked_ref())
}

/// What was sent, or none after `limit_ms()`, which is asked at each step.
async fn in_time(
    mut answer: oneshot::Receiver<Answer>,
    limit_ms: &dyn Fn() -> u32,
) -> Option<Answer> {
    let mut waited_ms = 0;
    loop {
        let step = TimeoutFuture::new(limits::WAITING_STEP_MS);
        match select(answer, step).await {
            Either::Left((sent, _)) => return sent.ok(),
            Either::Right(((), unanswered)) => answer = unanswered,
        }
        waited_ms += limits::WAITING_STEP_MS;
        if waited_ms >= limit_ms() {
            return None;
        }
    }
}

/// The error of what has not answered in time.
pub(super) fn no_answer(code: Code) -> Error {
    Error::new(code, "the database did not answer in time")
}

/// The end of a transaction. Call it before the first request.
pub(super) fn ended(tx: &IdbTransaction) -> impl Future<Output = Ended> + use<> {
    let (once, end) = Once::new();
    // That it is complete says all: any property will do.
    let (complete, abort) = handlers(&once, tx, "mode");
    tx.set_oncomplete(function(&complete));
    tx.set_onabort(function(&abort));
    let tx = tx.clone();
    async move {
        let ended = in_time(end, &|| patience_ms(&tx.db())).await;
        tx.set_oncomplete(None);
        tx.set_onabort(None);
        drop((complete, abort));
        match ended {
            Some(Ok(_)) => Ended::Complete,
            Some(Err(reason)) => Ended::Aborted(reason),
            None => {
                // Refused where it was told to commit: then only reading shows what has become of it.
                let _ = tx.abort();
                Ended::Silent
            }
        }
    }
}

/// The result of a request. One that does not answer in time takes its connection with it, so that
/// the next call begins with a new one.
pub(super) fn result(request: IdbRequest) -> impl Future<Output = Result<JsValue>> {
    let (once, answer) = Once::new();
    let (success, error) = handlers(&once, &request, "result");
    request.set_onsuccess(function(&success));
    request.set_onerror(function(&error));
    async move {
        let db = request.transaction().map(|tx| tx.db());
        let limit_ms = || db.as_ref().map_or(0, patience_ms);
        let answer = in_time(answer, &limit_ms).await;
        request.set_onsuccess(None);
        request.set_onerror(None);
        drop((success, error));
        if let Some(answer) = answer {
            return answer.map_err(|e| storage_error(&e));
        }
        let lost = limit_ms() == 0;
        if let Some(tx) = request.transaction() {
            let _ = tx.abort();
            tx.db().close();
        }
        Err(no_answer(if lost {
            Code::DatabaseLost
        } else {
            Code::StorageFailed
        }))
    }
}

/// The results of requests of one transaction, which are under way all at once.
pub(super) async fn results(
    requests: Vec<impl Future<Output = Result<JsValue>>>,
) -> Vec<Result<JsValue>> {
    let mut results = Vec::with_capacity(requests.len());
    for request in requests {
        results.push(request.await);
    }
    results
}

/// An opened database. `upgrade` is called with the version it had (0: there was none) where that
/// is lower than the one asked for; it makes the stores, or aborts the transaction, which ends in
/// an error.
pub(super) async fn opened(
    request: IdbOpenDbRequest,
    upgrade: impl FnOnce(&IdbDatabase, &IdbTransaction, u32) + 'static,
) -> Result<IdbDatabase> {
    let (once, answer) = Once::new();
    // What it waits for decides how long.
    let limit_ms = Rc::new(Cell::new(limits::OPEN_TIMEOUT_MS));
    let upgrading = Closure::<dyn FnMut(JsValue)>::new({
        let (limit_ms, request) = (limit_ms.clone(), request.clone());
        let mut upgrade = Some(upgrade);
        move |event: JsValue| {
            limit_ms.set(limits::TRANSACTION_TIMEOUT_MS);
            if let (Some(tx), Some(upgrade)) = (request.transaction(), upgrade.take()) {
                let old = get(&event, "oldVersion").as_f64().unwrap_or(0.0);
                upgrade(&tx.db(), &tx, old as u32);
            }
        }
    });
    let blocked = Handler::new({
        let limit_ms = limit_ms.clone();
        move || limit_ms.set(limits::BLOCKED_WAIT_MS)
    });
    let (success, error) = handlers(&once, &request, "result");
    request.set_onupgradeneeded(Some(upgrading.as_ref().unchecked_ref()));
    request.set_onblocked(function(&blocked));
    request.set_onsuccess(function(&success));
    request.set_onerror(function(&error));
    let answer = in_time(answer, &|| limit_ms.get()).await;
    request.set_onupgradeneeded(None);
    request.set_onblocked(None);
    request.set_onsuccess(None);
    request.set_onerror(None);
    drop((upgrading, blocked, success, error));
    match answer {
        Some(Ok(db)) => Ok(db.unchecked_into()),
        Some(Err(error)) => Err(storage_error(&error)),
        None => {
            forsake(&request);
            let message = "the database could not be opened in time; another tab may keep it";
            Err(Error::new(Code::DatabaseBlocked, message))
        }
    }
}

/// Nobody waits for it any more, but it cannot be taken back. It must not change the database when
/// its turn comes after all, nor hold it open.
fn forsake(request: &IdbOpenDbRequest) {
    let abort = {
        let request = request.clone();
        move || {
            if let Some(tx) = request.transaction() {
                let _ = tx.abort();
            }
        }
    };
    abort();
    request.set_onupgradeneeded(Some(Closure::once_into_js(abort).unchecked_ref()));
    let close = {
        let request = request.clone();
        move || {
            get(&request, "result")
                .unchecked_into::<IdbDatabase>()
                .close();
        }
    };
    request.set_onsuccess(Some(Closure::once_into_js(close).unchecked_ref()));
    // Firefox reports an error that nobody took to the page.
    let quiet = |event: web_sys::Event| event.prevent_default();
    request.set_onerror(Some(Closure::once_into_js(quiet).unchecked_ref()));
}
